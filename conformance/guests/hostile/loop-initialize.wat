;; Never leaves its initialization.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize")
    (loop $spin (br $spin))))
