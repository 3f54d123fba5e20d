;; Has a memory that threads could share.
(module
  (memory (export "memory") 1 1 shared)
  (func (export "proxy_abi_version_0_2_1")))
