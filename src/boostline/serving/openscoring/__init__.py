"""Openscoring's REST protocol: PMML documents are deployed over HTTP and evaluated by JPMML in a child process."""
