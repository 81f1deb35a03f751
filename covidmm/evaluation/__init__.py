"""What is measured: detection, classification, the challenge's score, intervals."""
