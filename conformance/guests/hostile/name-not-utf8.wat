;; Exports a name that is no UTF-8.
(module binary
  "\00asm" "\01\00\00\00"
  "\01\04\01\60\00\00"        ;; type () -> ()
  "\03\02\01\00"              ;; one function of it
  "\07\06\01\02\ff\fe\00\00"  ;; exported as FF FE
  "\0a\04\01\02\00\0b")
