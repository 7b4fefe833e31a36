"""What answers: state, responder, server."""
