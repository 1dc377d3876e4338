"""go-ftw tests: the YAML format in which the CRS project writes its regression tests."""
