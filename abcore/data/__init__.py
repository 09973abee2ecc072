"""Images and labels: a verified dataset in memory-mapped bytes, and the batches that training and evaluation see."""
