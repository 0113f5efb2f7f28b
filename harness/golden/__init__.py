"""Read and write golden step tables."""
