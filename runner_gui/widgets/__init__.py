"""Building blocks of the pages; none of them knows a page."""
