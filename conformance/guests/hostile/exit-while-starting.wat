;; Ends the process, as it thinks, with code 1 when it is initialized.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize")
    (call $exit (i32.const 1))))
