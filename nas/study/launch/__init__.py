"""Starting a study: what is asked before the first write, its plan, its processes and its engines."""
