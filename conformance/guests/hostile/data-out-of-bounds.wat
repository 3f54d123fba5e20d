;; Has a data segment that ends past its memory.
(module
  (memory (export "memory") 1)
  (data (i32.const 65535) "ab")
  (func (export "proxy_abi_version_0_2_1")))
