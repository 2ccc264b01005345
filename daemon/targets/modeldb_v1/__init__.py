"""The target ModelDB V1: its Thrift "Light API", one pipelined connection per server, exactly one
run per job.
"""
