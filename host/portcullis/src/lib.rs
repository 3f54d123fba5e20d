//! Ring 3: the program: command line, documents, control, admin.
