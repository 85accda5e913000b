"""Record long work: runs, the pages that a run has read, and the slices that workers share."""
