"""ControlNets and T2I-Adapters: networks that read a picture and steer a U-Net."""
