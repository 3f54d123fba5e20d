;; Announces a hundred million functions.
(module binary
  "\00asm" "\01\00\00\00"
  "\01\04\01\60\00\00"
  "\03\05\80\c2\d7\2f\00")
