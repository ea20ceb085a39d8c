"""Programs of ours at work inside the distribution: started, found again, ended; their files in and out."""
