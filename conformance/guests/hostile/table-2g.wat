;; Declares a table of 2^31 elements.
(module
  (memory (export "memory") 1)
  (table 2147483648 funcref)
  (func (export "proxy_abi_version_0_2_1")))
