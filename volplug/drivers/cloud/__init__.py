"""What drivers of clouds share. It knows time, threads and volumes, but no SDK and no cloud."""
