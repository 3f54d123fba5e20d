;; Starts with all the memory that 32 bits can address.
(module
  (memory (export "memory") 65536)
  (func (export "proxy_abi_version_0_2_1")))
