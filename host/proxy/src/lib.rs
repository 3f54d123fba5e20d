//! Ring 2: the data plane. No documents, no Kubernetes, no command line.
