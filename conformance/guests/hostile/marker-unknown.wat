;; Claims an ABI version that nobody has specified.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_9_9_9")))
