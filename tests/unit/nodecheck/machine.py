"""A machine in a folder: /sys, /proc and /dev of eight devices and eight ports, and outputs of its tools; one thing at a time is broken."""

from pathlib import Path

BUSES = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
_FIELDS = """
GPU 00000000:{bus}:00.0
    Product Name                          : NVIDIA H100 80GB HBM3
    VBIOS Version                         : {vbios}
    GPU Recovery Action                   : {recovery}
    PCI
        Bus                               : 0x{bus}
        GPU Link Info
            PCIe Generation
                Max                       : 5
                Current                   : {generation}
                Device Current            : {generation}
                Device Max                : 5
                Host Max                  : 5
            Link Width
                Max                       : 16x
                Current                   : {width}
        Replays Since Reset               : 0
    Clocks Event Reasons
        Idle                              : Active
        SW Power Cap                      : Not Active
        HW Slowdown                       : {hw}
            HW Thermal Slowdown           : {thermal}
            HW Power Brake Slowdown       : {brake}
        Sync Boost                        : Not Active
        SW Thermal Slowdown               : Not Active
    FB Memory Usage
        Total                             : 81559 MiB
        Used                              : 4 MiB
    Utilization
        Gpu                               : {util}
        Memory                            : 0 %
    ECC Mode
        Current                           : Enabled
        Pending                           : Enabled
    ECC Errors
        Volatile
            SRAM Correctable              : 0
            SRAM Uncorrectable Parity     : {sram}
            SRAM Uncorrectable SEC-DED    : 0
            DRAM Correctable              : 0
            DRAM Uncorrectable            : {uncorrected}
        Aggregate
            SRAM Correctable              : 0
            DRAM Uncorrectable            : 0
            SRAM Threshold Exceeded       : {exceeded}
    Retired Pages
        Single Bit ECC                    : N/A
        Double Bit ECC                    : N/A
        Pending Page Blacklist            : N/A
    Remapped Rows
        Correctable Error                 : 0
        Uncorrectable Error               : 0
        Pending                           : {pending}
        Remapping Failure Occurred        : {failed}
        Bank Remap Availability Histogram
            Max                           : 2560 bank(s)
            None                          : 0 bank(s)
    Temperature
        GPU Current Temp                  : {temp}
        GPU Slowdown Temp                 : {slowdown}
        Memory Current Temp               : 50 C
    GPU Power Readings
        Power Draw                        : {power}
        Current Power Limit               : 700.00 W
        Default Power Limit               : 700.00 W
    Clocks
        SM                                : 1980 MHz
    Max Clocks
        SM                                : 1980 MHz
    Fabric
        State                             : {fabric}
        Status                            : {status}
    Processes                             : None
"""


def write(path: Path, text: str) -> None:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def port(root: Path, name: str, **known: str) -> None:
    """An InfiniBand port. known: files of the port by name, counters as counters__NAME."""
    files = {
        "state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand",
        "counters/link_downed": "0", "counters/symbol_error": "0", "counters/port_rcv_data": "1000",
        "counters/local_link_integrity_errors": "0", "counters/link_error_recovery": "0",
        "hw_counters/local_ack_timeout_err": "0", "hw_counters/out_of_sequence": "7",
    }  # fmt: skip
    files |= {key.replace("__", "/"): value for key, value in known.items() if key != "board"}
    for file, text in files.items():
        write(root / "sys/class/infiniband" / name / "ports/1" / file, text)
    write(root / "sys/class/infiniband" / name / "board_id", known.get("board", "MT_0000000838"))


def device(root: Path, address: str, *, kind: str = "0x030200", maker: str = "0x10de", **known: str) -> None:
    """A PCIe device below a bridge of its own. known: files of the device by name, of the bridge as slot__NAME."""
    bridge = f"{address[:-4]}ff.0"
    base = root / "sys/devices/pci0000:00" / bridge / address
    files = {"class": kind, "vendor": maker, "current_link_width": "16", "max_link_width": "16"}
    files |= {"current_link_speed": "32.0 GT/s PCIe", "max_link_speed": "32.0 GT/s PCIe"}
    files |= {"aer_dev_fatal": "DLP 0\nTOTAL_ERR_FATAL 0", "aer_dev_correctable": "RxErr 0\nTOTAL_ERR_COR 0"}
    slot = {"class": "0x060400", "max_link_width": "16", "max_link_speed": "32.0 GT/s PCIe"}
    for key, value in known.items():
        (slot if key.startswith("slot__") else files)[key.removeprefix("slot__")] = value
    for file, text in files.items():
        write(base / file, text)
    for file, text in slot.items():
        write(base.parent / file, text)
    link = root / "sys/bus/pci/devices" / address
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(base)


def machine(root: Path) -> Path:
    """A healthy machine."""
    for n, bus in enumerate(BUSES):
        device(root, f"0000:{bus}:00.0")
        port(root, f"mlx5_{n}")
        information = f"Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t GPU-0{n}\nGPU Excluded:\t No"
        write(root / f"proc/driver/nvidia/gpus/0000:{bus}:00.0/information", information)
        write(root / f"dev/nvidia{n}", "")
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024"
    write(root / "proc/driver/nvidia/version", version)
    write(root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.15", "")
    memory = "MemTotal: 2113000000 kB\nMemAvailable: 2000000000 kB\nHugePages_Total: 0\nHardwareCorrupted: 0 kB"
    write(root / "proc/meminfo", memory)
    mounts = "/dev/md0 / ext4 rw,relatime,errors=remount-ro 0 0\n/dev/md0 /etc/hosts ext4 ro 0 0\ntmpfs /run tmpfs ro 0 0"
    write(root / "proc/mounts", mounts)
    write(root / "proc/stat", "cpu 1 2 3\nbtime 1764000000")
    stall = "avg10=0.00 avg60=1.00 avg300=0.00 total=1"
    write(root / "proc/pressure/io", f"some {stall}\nfull {stall}")
    write(root / "proc/sys/net/netfilter/nf_conntrack_count", "1000")
    write(root / "proc/sys/net/netfilter/nf_conntrack_max", "262144")
    write(root / "proc/sys/kernel/hostname", "n3")
    write(root / "proc/1/stat", process(1, "systemd", "S"))
    write(root / "sys/devices/system/edac/mc/mc0/ue_count", "0")
    write(root / "sys/devices/system/edac/mc/mc0/ce_count", "2")
    write(root / "sys/devices/system/cpu/present", "0-191")
    write(root / "sys/devices/system/cpu/online", "0-191")
    write(root / "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc")
    write(root / "sys/class/nvme/nvme0/state", "live")
    write(root / "sys/block/sda/device/state", "running")
    write(root / "sys/class/dmi/id/product_name", "PowerEdge XE9680")
    write(root / "sys/class/hwmon/hwmon0/name", "coretemp")
    write(root / "sys/class/hwmon/hwmon0/temp1_input", "55000")
    write(root / "sys/class/hwmon/hwmon0/temp1_crit", "100000")
    return root


def process(pid: int, name: str, state: str, *, size: int = 1000) -> str:
    """A line of /proc/PID/stat."""
    fields = ["0"] * 50
    fields[0], fields[19], fields[20] = state, "77", str(size)
    return f"{pid} ({name}) {' '.join(fields)}"


def smi(n: int = 2, **known: str) -> str:
    """`nvidia-smi -q` of n GPUs; known: what stands in the last one's fields instead."""
    head = f"\n==============NVSMI LOG==============\n\nDriver Version         : 550.54.15\nAttached GPUs          : {n}\n"
    return head + "".join(_gpu(i, known if i == n - 1 else {}) for i in range(n))


def _gpu(n: int, known: dict[str, str]) -> str:
    f = {
        "uncorrected": "0", "sram": "0", "pending": "No", "failed": "No", "temp": "45 C", "slowdown": "87 C", "hw": "Not Active",
        "thermal": "Not Active", "brake": "Not Active", "width": "16x", "generation": "5", "util": "0 %", "fabric": "Completed",
        "vbios": "96.00.61.00.01", "recovery": "None", "power": "70.50 W", "exceeded": "No",
    } | known  # fmt: skip
    status = "Success" if f["fabric"] == "Completed" else "N/A"
    return _FIELDS.format(bus=BUSES[n].upper(), status=status, **f)


def table(*, temp: str = "34C", ecc: str = "0") -> str:
    """`nvidia-smi` without options, of the machine's eight devices; temp, ecc: of the last."""
    rows = ["| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |"]
    rows += ["| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |"]
    for n, bus in enumerate(BUSES):
        heat, errors = (temp, ecc) if n == len(BUSES) - 1 else ("34C", "0")
        rows += [f"|   {n}  NVIDIA H100 80GB HBM3          On  |   00000000:{bus.upper()}:00.0 Off | {errors:>20} |"]
        rows += [f"| N/A   {heat}    P0              69W / 700W |       4MiB / 81559MiB |      0%      Default |"]
        rows += ["|                                         |                        |             Disabled |"]
    return "\n".join(rows)


def links(down: tuple[tuple[int, int], ...] = (), *, gpus: int = 4, count: int = 18) -> str:
    """`nvidia-smi nvlink -s`; down: (GPU, link) that are inactive."""
    rows = []
    for gpu in range(gpus):
        rows.append(f"GPU {gpu}: NVIDIA H100 80GB HBM3 (UUID: GPU-0{gpu})")
        rows += [f"\t Link {n}: {'<inactive>' if (gpu, n) in down else '26.562 GB/s'}" for n in range(count)]
    return "\n".join(rows)
