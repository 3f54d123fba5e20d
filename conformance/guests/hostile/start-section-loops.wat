;; Never leaves its start section.
(module
  (memory (export "memory") 1)
  (start $start)
  (func (export "proxy_abi_version_0_2_1"))
  (func $start (loop $spin (br $spin))))
