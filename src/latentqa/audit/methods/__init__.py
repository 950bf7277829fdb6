"""Methods of a reading audit: the decoder in three modes, and everything that it is compared with."""

from latentqa.audit.methods.decoded import ReadBy
from latentqa.audit.methods.method import Method, Peers, choose
from latentqa.audit.methods.registry import DECODED, METHODS, known_methods, make_methods

__all__ = ["DECODED", "METHODS", "Method", "Peers", "ReadBy", "choose", "known_methods", "make_methods"]
