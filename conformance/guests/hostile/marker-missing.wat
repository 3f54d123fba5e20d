;; Exports no ABI marker.
(module
  (memory (export "memory") 1))
