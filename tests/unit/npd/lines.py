"""A line for every rule as the named program prints it, with the device it names; and lines of a node that is well."""

EXAMPLES: dict[str, tuple[str, str]] = {
    "kernel_panic": ("Kernel panic - not syncing: Fatal exception in interrupt", ""),
    "kernel_oops": ("Oops: 0002 [#1] SMP NOPTI", ""),
    "hard_lockup": ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 17", ""),
    "soft_lockup": ("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:4121]", ""),
    "rcu_stall": ("rcu: INFO: rcu_sched self-detected stall on CPU", ""),
    "kernel_warning": ("WARNING: CPU: 3 PID: 77 at net/sched/sch_generic.c:525 dev_watchdog+0x264/0x270", ""),
    "atomic_bug": ("BUG: scheduling while atomic: swapper/3/0/0x00000100", ""),
    "workqueue_lockup": ("BUG: workqueue lockup - pool cpus=3 node=0 flags=0x0 nice=0 stuck for 31s!", ""),
    "nmi_error": ("NMI: PCI system error (SERR) for reason b1 on CPU 0.", ""),
    "nmi_unknown": ("Uhhuh. NMI received for unknown reason 3d on CPU 4.", ""),
    "irq_unhandled": ('irq 16: nobody cared (try booting with the "irqpoll" option)', ""),
    "hung_task": ("INFO: task kworker/u256:3:1234 blocked for more than 120 seconds.", ""),
    "nfs_writeback_hang": (" nfs_wb_all+0x2c/0x190 [nfs]", ""),
    "oom_invoked": (
        "python3 invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
        "",
    ),
    "oom_kill_cgroup": (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,mems_allowed=0,oom_memcg=/k,task_memcg=/k/p,task=python3,pid=77,uid=0",
        "",
    ),
    "oom_kill": (
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/u,task=java,pid=9,uid=1",
        "",
    ),
    "oom_cgroup": ("Memory cgroup out of memory: Killed process 4121 (python3) total-vm:1kB, anon-rss:1kB", ""),
    "oom": ("Out of memory: Killed process 4121 (python3) total-vm:92432kB, anon-rss:4332kB", ""),
    "oom_killed": ("Killed process 4121, UID 48, (httpd) total-vm:25784kB, anon-rss:1304kB", ""),
    "oom_reaped": ("oom_reaper: reaped process 4121 (python3), now anon-rss:0kB", ""),
    "oom_no_victim": ("Out of memory and no killable processes...", ""),
    "allocation_failed": ("python3: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)", ""),
    "slab_failed": ("SLUB: Unable to allocate memory on node -1, gfp=0xa20(GFP_ATOMIC)", ""),
    "file_max": ("VFS: file-max limit 1000000 reached", ""),
    "pid_max": ("cgroup: fork rejected by pids controller in /kubepods.slice/pod1", ""),
    "conntrack_full": ("nf_conntrack: nf_conntrack: table full, dropping packet", ""),
    "neighbour_overflow": ("neighbour: arp_cache: neighbor table overflow!", ""),
    "tcp_memory": ("TCP: out of memory -- consider tuning tcp_mem", ""),
    "tcp_orphans": ("TCP: too many orphaned sockets", ""),
    "no_space": ("systemd-journald[889]: Failed to open system journal: No space left on device", ""),
    "netdevice_stuck": ("unregister_netdevice: waiting for eth0 to become free. Usage count = 3", "eth0"),
    "segfault_in_nccl": ("pt_main[77]: segfault at 0 ip 00007f01 sp 00007f02 error 4 in libnccl.so.2[7f01+d3d]", ""),
    "segfault": ("python3[77]: segfault at 0 ip 00007f01 sp 00007f02 error 4 in libc.so.6[7f01+d3d]", ""),
    "trap": ("traps: python3[77] trap divide error ip:55d sp:7ff error:0 in python3.11[55d+2e4]", ""),
    "clock_unstable": (
        "clocksource: timekeeping: Marking clocksource 'tsc' as unstable because the skew is too large:",
        "",
    ),
    "rt_throttled": ("sched: RT throttling activated", ""),
    "machine_check_fatal": ("mce: [Hardware Error]: CPU 4: Machine Check Exception: 5 Bank 7: be00000000800400", ""),
    "machine_check": ("mce: [Hardware Error]: CPU 4: Machine Check: 0 Bank 7: 8c00004000010091", ""),
    "machine_check_logged": ("mce: [Hardware Error]: Machine check events logged", ""),
    "memory_corrected": ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)", ""),
    "memory_uncorrected": ("EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)", ""),
    "memory_poison": ("Memory failure: 0x1a2b3c: recovery action for dirty LRU page: Recovered", ""),
    "page_offline": ("Soft-offlining pfn 0x1a2b3c", ""),
    "apei_fatal": ("{1}[Hardware Error]: event severity: fatal", ""),
    "apei_error": ("{1}[Hardware Error]: event severity: recoverable", ""),
    "apei_corrected": ("{1}[Hardware Error]: event severity: corrected", ""),
    "boot_error_record": ("BERT: Error records from previous boot:", ""),
    "iommu_fault": ("DMAR: [DMA Read NO_PASID] Request device [3b:00.0] fault addr 0x0 [fault reason 0x06]", ""),
    "iommu_timeout": ("AMD-Vi: Completion-Wait loop timed out", ""),
    "aer_fatal": (
        "pcieport 0000:17:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer",
        "0000:17:00.0",
    ),
    "aer_nonfatal": (
        "pcieport 0000:17:00.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:18:00.0",
        "0000:18:00.0",
    ),
    "aer_corrected": (
        "pcieport 0000:17:00.0: AER: Multiple Corrected error message received from 0000:18:00.0",
        "0000:18:00.0",
    ),
    "aer_unrecovered": ("pcieport 0000:17:00.0: AER: device recovery failed", "0000:17:00.0"),
    "aer_recovered": ("pcieport 0000:17:00.0: AER: device recovery successful", "0000:17:00.0"),
    "pcie_contained": ("pcieport 0000:17:00.0: DPC: containment event, status:0x1f01 source:0x0000", "0000:17:00.0"),
    "pcie_link_down": ("pcieport 0000:17:00.0: pciehp: Slot(12): Link Down", "12"),
    "pcie_link_up": ("pcieport 0000:17:00.0: pciehp: Slot(12): Link Up", "12"),
    "pcie_inaccessible": (
        "nvidia 0000:3b:00.0: Unable to change power state from D3cold to D0, device inaccessible",
        "0000:3b:00.0",
    ),
    "pcie_link_broken": (
        "pcieport 0000:17:00.0: broken device, retraining non-functional downstream link at 2.5GT/s",
        "0000:17:00.0",
    ),
    "pcie_narrow": (
        "pci 0000:3b:00.0: 31.504 Gb/s available PCIe bandwidth, limited by 2.5 GT/s PCIe x16 link at 0000:17:00.0",
        "0000:3b:00.0",
    ),
    "peermem_context": (
        "nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping further processing",
        "",
    ),
    "nvidia_init": ("NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x22:0x56:751)", "0000:3b:00.0"),
    "nvidia_boot": ("NVRM: _kgspBootGspRm: unexpected WPR2 already up, cannot proceed with booting GSP", ""),
    "driver_probe": ("nvidia: probe of 0000:3b:00.0 failed with error -1", "0000:3b:00.0"),
    "nvidia_probe": ("NVRM: The NVIDIA probe routine failed for 1 device(s).", ""),
    "nvidia_mismatch": ("NVRM: API mismatch: the client has the version 535.1, but this kernel module 550.2", ""),
    "nvidia_bar": ("NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:", ""),
    "nvidia_memory_fatal": (
        "NVRM: nvGpuOpsReportFatalError: uvm encountered global fatal error 0x60, requiring os reboot to recover.",
        "",
    ),
    "nvidia_lost": ("NVRM: GPU at 0000:3b:00.0: GPU has been lost", "0000:3b:00.0"),
    "amdgpu_reset": ("amdgpu 0000:c1:00.0: amdgpu: GPU reset begin!", "0000:c1:00.0"),
    "amdgpu_back": ("amdgpu 0000:c1:00.0: amdgpu: GPU reset(2) succeeded!", "0000:c1:00.0"),
    "amdgpu_ring": (
        "amdgpu 0000:c1:00.0: [drm] *ERROR* ring comp_1.0.0 timeout, signaled seq=4, emitted seq=6",
        "0000:c1:00.0",
    ),
    "amdgpu_corrected": (
        "amdgpu 0000:c1:00.0: amdgpu: 1 correctable hardware errors detected in umc block",
        "0000:c1:00.0",
    ),
    "intel_gpu_hang": ("i915 0000:00:02.0: [drm] GPU HANG: ecode 12:1:85dffffb, in python3 [77]", ""),
    "habana_dead": ("habanalabs hl0: Device heartbeat failed!", "hl0"),
    "cpu_throttled": ("mce: CPU17: Package temperature above threshold, cpu clock throttled (total events = 1)", ""),
    "cpu_cool": ("mce: CPU17: Package temperature/speed normal", ""),
    "critical_temperature": ("thermal thermal_zone0: critical temperature reached (105 C), shutting down", ""),
    "power_supply": ("ipmievd: Power Supply sensor PSU2 Power Supply AC lost Asserted", ""),
    "raid_failure": ("md/raid1:md0: Disk failure on nvme1n1p2, disabling device.", "nvme1n1p2"),
    "raid_stopped": ("md/raid:md5: Cannot continue operation (2/3 failed).", ""),
    "raid_degraded": ("md: kicking non-fresh sdb1 from array!", ""),
    "raid_recovered": ("md: md0: recovery done.", "md0"),
    "nvme_no_path": ("block nvme0n1: no available path - failing I/O", "nvme0n1"),
    "nvme_timeout": ("nvme nvme2: I/O tag 22 (2016) opcode 0x2 (Admin Cmd) QID 0 timeout, reset controller", "nvme2"),
    "nvme_disabled": ("nvme nvme2: Device not ready; aborting reset, CSTS=0x1", "nvme2"),
    "nvme_down": ("nvme nvme2: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0x10", "nvme2"),
    "nvme_media": ("nvme2n1: I/O Cmd(0x2) @ LBA 1234, 8 blocks, I/O Error (sct 0x2 / sc 0x81) MORE DNR", "nvme2n1"),
    "nvme_reconnect": ("nvme nvme2: Reconnecting in 10 seconds...", "nvme2"),
    "nvme_reconnected": ("nvme nvme2: Successfully reconnected (3 attempts)", "nvme2"),
    "medium_error": ("blk_update_request: critical medium error, dev sdb, sector 1234 op 0x0:(READ) flags 0x0", "sdb"),
    "scsi_error": ("sd 0:0:1:0: [sdb] tag#3 Sense Key : Medium Error [current]", "sdb"),
    "io_error": ("Buffer I/O error on dev dm-0, logical block 1308098575, lost async page write", "dm-0"),
    "disk_offline": ("sd 0:0:1:0: rejecting I/O to offline device", "0:0:1:0"),
    "ata_failure": ("ata3.00: failed command: READ FPDMA QUEUED", "ata3.00"),
    "controller_fault": ("mpt3sas_cm0: fault_state(0x5854)!", ""),
    "virtual_drive": ("megaraid_sas 0000:18:00.0: 1234 (VD) - VD 00/0 is now DEGRADED", ""),
    "multipath_failed": ("device-mapper: multipath: 253:2: Failing path 8:16.", "8:16"),
    "multipath_back": ("device-mapper: multipath: 253:2: Reinstating path 8:16.", "8:16"),
    "thin_pool": ("device-mapper: thin: 253:4: switching pool to out-of-data-space (queue IO) mode", "253:4"),
    "beyond_end": ("kworker/u203:1: attempt to access beyond end of device", ""),
    "smart_failed": ("Device: /dev/sdb [SAT], 8 Currently unreadable (pending) sectors", "/dev/sdb"),
    "readonly": ("EXT4-fs (md0): Remounting filesystem read-only", "md0"),
    "ext4_error": (
        "EXT4-fs error (device md0): ext4_find_entry:1455: inode #2: comm ls: reading directory lblock 0",
        "md0",
    ),
    "ext4_warning": ("EXT4-fs warning (device md0): ext4_end_bio:344: I/O error 10 writing to inode 12", "md0"),
    "ext4_data_lost": ("EXT4-fs (md0): This should not happen!! Data will be lost", "md0"),
    "superblock": ("EXT4-fs (dm-0): I/O error while writing superblock", "dm-0"),
    "ext4_journal": ("Aborting journal on device md0-8.", "md0-8."),
    "xfs_shutdown": ("XFS (nvme0n1p1): Log I/O Error Detected. Shutting down filesystem", "nvme0n1p1"),
    "xfs_error": ("XFS (nvme0n1p1): Metadata corruption detected at xfs_agi_verify+0x0/0x0", "nvme0n1p1"),
    "btrfs_error": ("BTRFS error (device sdb1): bdev /dev/sdb1 errs: wr 0, rd 1, flush 0, corrupt 0, gen 0", "sdb1"),
    "btrfs_warning": (
        "BTRFS warning (device sdb1): csum failed root 5 ino 257 off 0 csum 0x1 expected csum 0x2",
        "sdb1",
    ),
    "overlay_error": ("overlayfs: failed to resolve '/var/lib/a': -2", ""),
    "image_damaged": ("SQUASHFS error: Unable to read fragment cache entry [1a2b3c]", ""),
    "zfs_suspended": ("WARNING: Pool 'tank' has encountered an uncorrectable I/O failure and has been suspended.", ""),
    "nfs_silent": ("nfs: server store-1.example.com not responding, still trying", "store-1.example.com"),
    "nfs_back": ("nfs: server store-1.example.com OK", "store-1.example.com"),
    "nfs_lock_lost": ("NFS: nfs4_reclaim_open_state: Lock reclaim failed!", ""),
    "nfs_lease_lost": ("NFS: state manager: lease expired failed on NFSv4 server store-1 with error 5", ""),
    "nfs_stale": ("NFS: __nfs_revalidate_inode: (0:42/12) getattr failed, Stale file handle", ""),
    "cifs_silent": ("CIFS: VFS: \\\\store-1 has not responded in 180 seconds. Reconnecting...", ""),
    "lustre_evicted": (
        "LustreError: 167-0: scratch-MDT0000-mdc-ffff8: This client was evicted by scratch-MDT0000; in progress operations will fail.",
        "scratch-MDT0000",
    ),
    "lustre_lost": (
        "Lustre: scratch-OST0001-osc-ffff8: Connection to scratch-OST0001 (at 192.0.2.5@o2ib) was lost; operations will wait",
        "scratch-OST0001",
    ),
    "lustre_timeout": (
        "Lustre: 77:0:(client.c:2289:ptlrpc_expire_one_request()) @@@ Request sent has timed out for slow reply",
        "",
    ),
    "lustre_back": (
        "Lustre: scratch-OST0001-osc-ffff8: Connection restored to scratch-OST0001 (at 192.0.2.5@o2ib)",
        "scratch-OST0001",
    ),
    "lustre_bug": ("LustreError: 77:0:(osc_request.c:1234:osc_release()) LBUG", ""),
    "lnet_error": (
        "LNetError: 77:0:(o2iblnd_cb.c:3492:kiblnd_check_txs_locked()) Timed out tx: active_txs, 1 seconds",
        "",
    ),
    "gpfs": ("mmfs: [E] Disk failure. Volume fs1. rc = 19. Physical volume disk7.", ""),
    "gpfs_log": ("2025-11-24_16:00:00.000+0000: [X] *** Assert exp(held) in line 1234 of file mmfs.C", ""),
    "ceph": ("libceph: osd12 (1)192.0.2.7:6800 socket closed (con state OPEN)", "osd12"),
    "beegfs_lost": ("beegfs: mount(77): Communication error. Peer: storage7", ""),
    "mlx5_health": (
        "mlx5_core 0000:5c:00.0: poll_health:955:(pid 0): device's health compromised - reached miss count",
        "0000:5c:00.0",
    ),
    "mlx5_unrecoverable": (
        "mlx5_core 0000:5c:00.0: print_health_info: synd 0x8: unrecoverable hardware error",
        "0000:5c:00.0",
    ),
    "mlx5_firmware": (
        "mlx5_core 0000:5c:00.0: Health issue observed, firmware internal error, severity(3) ERROR:",
        "0000:5c:00.0",
    ),
    "mlx5_power": (
        "mlx5_core 0000:5c:00.0: mlx5_pcie_event:299:(pid 77): Detected insufficient power on the PCIe slot (27W).",
        "0000:5c:00.0",
    ),
    "mlx5_temperature": (
        "mlx5_core 0000:5c:00.0: Port module event[error]: module 0, Cable error, High Temperature",
        "0000:5c:00.0",
    ),
    "mlx5_unplugged": ("mlx5_core 0000:5c:00.1: Port module event: module 1, Cable unplugged", "0000:5c:00.1"),
    "mlx5_cable": (
        "mlx5_core 0000:5c:00.0: Port module event[error]: module 0, Cable error, Bus stuck (I2C or data shorted)",
        "0000:5c:00.0",
    ),
    "mlx5_access_reg": (
        "mlx5_core 0000:5c:00.0: mlx5_cmd_out_err:838:(pid 77): ACCESS_REG(0x805) op_mod(0x1) failed",
        "0000:5c:00.0",
    ),
    "mlx5_command": (
        "mlx5_core 0000:5c:00.0: wait_func:1151:(pid 77): ACCESS_REG(0x805) timeout. Will cause a leak of a command resource",
        "0000:5c:00.0",
    ),
    "mlx5_init": (
        "mlx5_core 0000:5c:00.0: probe_one:1683:(pid 77): mlx5_load_one failed with error code -110",
        "0000:5c:00.0",
    ),
    "netdev_watchdog": ("NETDEV WATCHDOG: eth0 (mlx5_core): transmit queue 0 timed out", ""),
    "tx_timeout": ("mlx5_core 0000:65:00.0 ens15np0: TX timeout detected", "0000:65:00.0"),
    "rx_timeout": (
        "mlx5_core 0000:65:00.0 ens15np0: RX timeout on channel: 20, ICOSQ: 0x1ee0, RQ: 0x1e43",
        "0000:65:00.0",
    ),
    "bnxt_firmware": ("bnxt_en 0000:17:00.0 eth0: Error (timeout: 500015) msg {0x41 0x1} len:0", "0000:17:00.0"),
    "ena_reset": ("ena 0000:00:05.0 eth0: Keep alive watchdog timeout.", "0000:00:05.0"),
    "nic_reset_failed": ("i40e 0000:17:00.0: Adapter reset failed, -15", "0000:17:00.0"),
    "ib_port_down": ("infiniband mlx5_0: Port: 1 Link DOWN", "mlx5_0"),
    "ib_port_up": ("infiniband mlx5_0: Port: 1 Link UP", "mlx5_0"),
    "nic_link_down": ("mlx5_core 0000:5c:00.0 eth0: Link down", "0000:5c:00.0"),
    "nic_link_up": ("mlx5_core 0000:5c:00.0 eth0: Link up", "0000:5c:00.0"),
    "bond_lost": ("bond0: (slave eth0): link status definitely down, disabling slave", "eth0"),
    "bond_back": ("bond0: (slave eth0): link status definitely up, 100000 Mbps full duplex", "eth0"),
    "bond_down": ("bond0: now running without any active interface!", "bond0"),
    "bond_up": ("bond0: active interface up!", "bond0"),
    "pleg": ("PLEG is not healthy: pleg was last seen active 3m5s ago; threshold is 3m0s", ""),
    "overlay_corrupt": (
        "Handler for POST returned error: readlink /var/lib/docker/overlay2/l: invalid argument",
        "",
    ),
    "image_corrupt": (
        "failed to register layer: rename /var/lib/docker/image/a /var/lib/docker/image/b: directory not empty",
        "",
    ),
    "nvml_mismatch": ("Failed to initialize NVML: Driver/library version mismatch", ""),
    "nvml_lost": ("Failed to initialize NVML: Unknown Error", ""),
    "service_failed": ("containerd.service: Failed with result 'exit-code'.", ""),
    "service_started": ("Started containerd.service - containerd container runtime.", ""),
    "pressure_kill": ("Killed /kubepods/pod1 due to memory pressure for /kubepods being 60.00% > 50.00%", ""),
    "init_frozen": ("Freezing execution.", ""),
    "slurmd_fatal": ("slurmd: fatal: Unable to determine this slurmd's NodeName", ""),
    "clock_step": ("System clock wrong by 3.218342 seconds", ""),
    "time_unsynced": ("Can't synchronise: no selectable sources (3 unreachable sources)", ""),
    "time_synced": ("Selected source 192.0.2.9", ""),
    "ptp_fault": ("ptp4l: [1234.567] port 1: SLAVE to FAULTY on FAULT_DETECTED (FT_UNSPECIFIED)", ""),
    "fabric_multicast": (
        "failed to find the GPU handle 5410063385821516767 in the multicast team request setup 613.",
        "",
    ),
    "fabric_training": ("NVLink training failed for device 3 link 7", ""),
    "fabric_stopped": ("[ERROR] [tid 77] Fabric Manager is aborting because of an unrecoverable error", ""),
}

# A finding that must be there first, for lines that only say more of it.
BESIDE = {
    "cpu_line": ("kernel_panic", "CPU: 24 PID: 1364 Comm: khungtaskd Tainted: P           OE     5.15.0 #54"),
    "nic_frame": ("soft_lockup", "RIP: 0010:mlx5e_poll_ico_cq+0x8b/0x1a0 [mlx5_core]"),
    "hung_task_last": ("hung_task", "Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings"),
    "hung_task_frame": ("hung_task", " xfs_ilock+0x2c/0x190 [xfs]"),
    "hung_task_gpu_frame": ("hung_task", " _nv012454rm+0x437/0x4b0 [nvidia]"),
    "hung_task_nic_frame": ("hung_task", " mlx5_ib_post_send+0x437/0x4b0 [mlx5_ib]"),
    "apei_section": ("apei_fatal", "{1}[Hardware Error]:   section_type: PCIe error"),
}

# What a node prints that boots and works well, near to what the rules look for.
WELL = """\
Linux version 6.8.0-45-generic (buildd@host) (gcc 13.2.0) #45-Ubuntu SMP PREEMPT_DYNAMIC
Command line: BOOT_IMAGE=/vmlinuz root=/dev/md0 ro panic=60 pci=realloc=off
x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'
mce: CPU0: Thermal monitoring enabled (TM1)
mce: [Firmware Bug]: Ignoring request to disable invalid MCA bank 28.
Memory: 2113345364K/2147024896K available (18432K kernel code, 33679532K reserved)
rcu: Hierarchical RCU implementation.
rcu: Hierarchical SRCU implementation.
NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.
GHES: APEI firmware first mode is enabled by APEI bit and WHEA _OSC.
BERT: Boot Error Record Table support is disabled. Enable it by using bert_enable as kernel parameter.
EDAC MC0: Giving out device to module i10nm_edac controller Intel_10nm Socket#0 IMC#0: DEV 0000:7e:0c.0 (INTERRUPT)
pcieport 0000:17:01.0: AER: enabled with IRQ 126
pcieport 0000:17:01.0: DPC: enabled with IRQ 126
pcieport 0000:17:01.0: pciehp: Slot #1 AttnBtn- PwrCtrl- MRL- AttnInd- PwrInd- HotPlug+ Surprise+ Interlock- NoCompl+
pci 0000:3b:00.0: 252.048 Gb/s available PCIe bandwidth, limited by 16.0 GT/s PCIe x16 link at 0000:17:01.0
clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x1cd42e4dffb, max_idle_ns: 881590591483 ns
clocksource: Long readout interval, skipping watchdog check: cs_nsec: 1584036171 wd_nsec: 1584036160
nvme nvme0: pci function 0000:01:00.0
nvme nvme0: 64/0/0 default/read/poll queues
nvme nvme0: Shutdown timeout set to 10 seconds
md: raid1 personality registered for level 1
md/raid1:md0: active with 2 out of 2 mirrors
EXT4-fs (md0): mounted filesystem 1b2c with ordered data mode. Quota mode: none.
EXT4-fs (md0): re-mounted 1b2c r/w. Quota mode: none.
XFS (nvme1n1): Mounting V5 Filesystem 77aa
XFS (nvme1n1): Ending clean mount
BTRFS info (device sdc1): using crc32c (crc32c-intel) checksum algorithm
overlayfs: idmapped layers are currently not supported
ata1: SATA link up 6.0 Gbps (SStatus 133 SControl 300)
ata5: SATA link down (SStatus 0 SControl 300)
sd 0:0:0:0: [sda] Attached SCSI disk
mlx5_core 0000:5c:00.0: firmware version: 28.39.1002
mlx5_core 0000:5c:00.0: 252.048 Gb/s available PCIe bandwidth (16.0 GT/s PCIe x16 link)
mlx5_core 0000:5c:00.0: Port module event: module 0, Cable plugged
mlx5_core 0000:5c:00.0 eth0: Link up
mlx5_core 0000:5c:00.0: E-Switch: Total vports 2, per vport: max uc(1024) max mc(16384)
infiniband mlx5_0: Port: 1 Link ACTIVE
IPv6: ADDRCONF(NETDEV_CHANGE): ib0: link becomes ready
bond0: (slave eth0): link status up, enabling it in 0 ms
nvidia: module license 'NVIDIA' taints kernel.
nvidia 0000:3b:00.0: enabling device (0140 -> 0142)
NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024
NVRM: GPU at PCI:0000:3b:00: GPU-1b2c3d4e-0000-1111-2222-333344445555
nvidia-nvswitch0: using MSI
nvidia-uvm: Loaded the UVM driver, major device number 511.
nvidia-modeset: Loading NVIDIA Kernel Mode Setting Driver for UNIX platforms  550.90.07
nfs: server store-1 OK
NFS: Registering the id_resolver key type
Lustre: Lustre: Build Version: 2.15.4
Lustre: Mounted scratch-client
LNet: Added LNI 192.0.2.10@o2ib [8/256/0/180]
systemd[1]: Started containerd.service - containerd container runtime.
systemd[1]: Started kubelet.service - Kubernetes kubelet.
chronyd[812]: Selected source 192.0.2.9 (ntp.example.com)
audit: type=1400 audit(1764000000.1:2): apparmor="STATUS" operation="profile_load" comm="apparmor_parser"
perf: interrupt took too long (2501 > 2500), lowering kernel.perf_event_max_sample_rate to 79750
TCP: request_sock_TCP: Possible SYN flooding on port 8080. Sending cookies.
cni0: port 3(veth1a2b) entered forwarding state
"""
