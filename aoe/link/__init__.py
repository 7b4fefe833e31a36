"""Ways a frame comes in and goes out, behind one interface."""
