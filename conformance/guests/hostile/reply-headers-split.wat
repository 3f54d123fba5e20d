;; Answers with headers that hold line ends, lie about the length and set another status.
(module
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "\06\00\00\00\06\00\00\00\01\00\00\00\06\00\00\00\0e\00\00\00\0e\00\00\00\04\00\00\00\11\00\00\00\07\00\00\00\0a\00\00\00\0d\00\00\00\07\00\00\00\03\00\00\00x-good\001\00x-crlf\00a\0d\0ax-forged: 1\00content-length\005000\00transfer-encoding\00chunked\00connection\00close, x-good\00:status\00200\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 64) (i32.const 166) (i32.const -1)))
    (i32.const 1)))
