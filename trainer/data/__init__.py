"""From texts to batches: readers, tokenizers, binidx, loss masks, packing, sampling. No torch."""
