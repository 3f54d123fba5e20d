;; Imports that nobody knows, functions under other types, a memory from outside.
(module
  (import "env" "proxy_read_file" (func (param i32) (result i32)))
  (import "env" "proxy_log" (func (param i32 i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "js" "memory" (memory 1))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_abi_version_0_2_0"))
  (func (export "proxy_on_tick") (param i64)))
