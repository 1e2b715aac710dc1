"""Open videos: the frames at given times, by torchcodec or by PyAV."""
