"""What happens to what arrives, whatever door it comes through."""
