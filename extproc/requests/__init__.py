"""Reading requests from what people have: a curl command line, a HAR file, a raw message, logs."""
