"""Record long work: runs, the pages they have read and the slices that workers share."""
