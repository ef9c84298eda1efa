"""Images: proven to be whole, measured, encoded."""
