;; Is a component and no core module.
(component)
