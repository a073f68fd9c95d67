"What result files say of the machine that made them"
import platform


def cpu():
    "The processor's name"
    try: return next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    except (OSError, StopIteration): return platform.processor() # no Linux


def machine():
    "A sentence: processor, threads and versions"
    import torch
    return f'Machine: {cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}.'
