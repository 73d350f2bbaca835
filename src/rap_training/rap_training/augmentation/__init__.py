"""What training samples are made of: drives as recorded, pushed off their path, seen by others."""
