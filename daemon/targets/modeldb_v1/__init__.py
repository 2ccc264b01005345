"""ModelDB V1: its Thrift API over one pipelined write connection, exactly one run per job."""
