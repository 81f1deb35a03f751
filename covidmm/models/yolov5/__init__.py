"""The YOLOv5 family as MMDetection parts: backbone, neck, head, assigner and box coder, each usable alone.

Written from the published architecture and loss (https://github.com/ultralytics/yolov5, version 7.0, and its
documentation), the papers that it builds on, and the names in its state dicts; no code was taken.
"""
