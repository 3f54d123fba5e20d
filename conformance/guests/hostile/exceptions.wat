;; Uses a feature of Wasm that this host leaves out: exceptions.
(module
  (tag)
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))
