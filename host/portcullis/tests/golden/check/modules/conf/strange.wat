(module
  (import "env" "fd_open" (func))
  (import "env" "proxy_log" (func (param i64)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))
