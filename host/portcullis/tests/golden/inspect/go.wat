;; What Go 1.24 makes of `-buildmode=c-shared`, cut down.
(module
  (@custom "go:buildid" "\ffabc")
  (@producers (language "Go" "go1.26.8") (processed-by "Go cmd/compile" "go1.26.8"))
  (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 320)
  (data (i32.const 0) "dep\09github.com/proxy-wasm/proxy-wasm-go-sdk\09v0.0.0-20250212164326-ab4161dcf924\09h1:")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0)))
