"""What samples are made of: drives as recorded, beside their path, of others, in edited scenes."""
