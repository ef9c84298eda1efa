"""Images: checks that they are whole, measurements, encoding."""
