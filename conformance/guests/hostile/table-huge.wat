;; Starts with a table of nearly ten million elements, 80 MB of pointers.
(module
  (memory (export "memory") 1)
  (table 9999999 funcref)
  (func (export "proxy_abi_version_0_2_1")))
