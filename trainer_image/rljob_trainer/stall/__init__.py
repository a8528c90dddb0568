"""Hangs of training: ranks show signs of life, the parent of a node's ranks watches them and gathers what tells why.

A rank writes its `pulse` into memory that it shares with its parent. The parent compares their silence with the
`limits` of the phase. On a hang it takes Python stacks by a signal, which works in a blocked collective or write as
well, names the rank that is late, and ends the ranks.
"""
