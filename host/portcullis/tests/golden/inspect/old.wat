;; A module of the first ABI in C++: two parameters for headers, WASI by its old name.
(module
  (@producers (language "C_plus_plus_14" "") (processed-by "clang" "10.0.0"))
  (import "env" "proxy_continue_request" (func (result i32)))
  (import "env" "emscripten_notify_memory_growth" (func (param i32)))
  (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 256 256)
  (func (export "proxy_abi_version_0_1_0"))
  (func (export "_start"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_validate_configuration") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32) (result i32) (i32.const 0)))
