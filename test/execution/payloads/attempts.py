# What a hostile payload tries, one attempt after another, each in a process of its own. Prints one JSON line for each:
# its name and whether it had an effect (`true`), was refused (`false`), or ended its process (`"killed"`).
# The same file run outside the sandbox is the control: no attempt here does harm where it succeeds.
import array, ctypes, errno, fcntl, json, mmap, os, platform, resource, signal, socket, struct, sys, time

target = json.loads(sys.stdin.read())
libc = ctypes.CDLL(None, use_errno=True)
arm = platform.machine() == "aarch64"
attempts = []
children = []


def attempt(function):
    attempts.append((function.__name__.replace("_", " "), function))
    return function


def syscall(x86, aarch64, *arguments):
    """The result; refusals of every kind raise."""
    result = libc.syscall(ctypes.c_long(aarch64 if arm else x86), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def reached(x86, aarch64, *arguments):
    """Whether the kernel looked at the arguments at all: any error but a refusal."""
    try:
        syscall(x86, aarch64, *arguments)
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.ENOSYS, errno.EACCES)
    return True


def writable(path):
    with open(path, "r+b"):
        return True


def child():
    pid = os.fork()
    if pid == 0:
        time.sleep(5)
        os._exit(0)
    children.append(pid)
    return pid


# --- the network

@attempt
def connect_to_a_port_of_the_host():
    socket.create_connection(("127.0.0.1", target["port"]), 2)
    return True

@attempt
def send_a_datagram():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)) == 1

@attempt
def open_an_ipv6_socket():
    return bool(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))

@attempt
def open_a_raw_socket():
    return bool(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))

@attempt
def open_a_packet_socket():
    return bool(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))

@attempt
def open_a_netlink_socket():
    return bool(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))

@attempt
def connect_to_an_abstract_socket_of_the_host():
    socket.socket(socket.AF_UNIX).connect("\0" + target["abstract"])
    return True

@attempt
def connect_to_the_control_socket():
    socket.socket(socket.AF_UNIX).connect(target["home"] + "/control.sock")
    return True

@attempt
def see_the_network_interfaces():
    return any(not line.strip().startswith("lo:") for line in open("/proc/net/dev").read().splitlines() if ":" in line)

# --- the host's files

@attempt
def read_the_password_hashes():
    return len(open("/etc/shadow").read()) > 0

@attempt
def read_the_accounts():
    return "root" in open("/etc/passwd").read()

@attempt
def read_the_nodes_key():
    return "secret" in open(target["home"] + "/node.key").read()

@attempt
def list_the_nodes_home():
    return len(os.listdir(target["home"])) > 0

@attempt
def list_the_home_of_root():
    return os.listdir("/root") is not None

@attempt
def list_other_runs():
    return len(os.listdir(target["staging"])) >= 0

@attempt
def reach_the_host_through_pid_1():
    return "etc" in os.listdir("/proc/1/root") and os.path.exists("/proc/1/root/etc/passwd")

@attempt
def climb_out_with_dots():
    return os.path.exists("/package/../../../../../../etc/passwd")

@attempt
def inherit_a_descriptor_of_the_host():
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
    return any(link.startswith("/") and not link.startswith(("/dev/null", "/proc", "/package", "/usr")) for link in links)

@attempt
def open_a_file_by_handle():
    return reached(304, 265, -1, None, 0)

# --- writing where nothing may be written

@attempt
def change_a_file_of_the_package():
    return writable(__file__)

@attempt
def add_a_file_to_the_package():
    path = os.path.join(os.path.dirname(__file__), "added")
    open(path, "w").close()
    os.unlink(path)
    return True

@attempt
def make_a_file_of_the_package_writable():
    os.chmod(__file__, 0o777)
    return True

@attempt
def write_into_usr():
    os.mkdir("/usr/lib/catalog-attempt")
    os.rmdir("/usr/lib/catalog-attempt")
    return True

@attempt
def write_into_the_root_directory():
    os.mkdir("/catalog-attempt")
    os.rmdir("/catalog-attempt")
    return True

@attempt
def write_into_etc():
    os.mkdir("/etc/catalog-attempt")
    os.rmdir("/etc/catalog-attempt")
    return True

@attempt
def leave_a_file_in_the_hosts_tmp():
    # The payload's own /tmp takes it: an effect only where the host sees it, which the test looks for.
    open("/tmp/" + target["marker"], "w").close()
    return "seen by the host"

@attempt
def leave_a_file_in_the_hosts_shared_memory():
    open("/dev/shm/" + target["marker"], "w").close()
    return "seen by the host"

# --- the kernel's knobs

@attempt
def set_the_core_pattern():
    return writable("/proc/sys/kernel/core_pattern")

@attempt
def set_a_network_knob():
    return writable("/proc/sys/net/ipv4/ip_forward")

@attempt
def pull_the_sysrq_trigger():
    return bool(os.open("/proc/sysrq-trigger", os.O_WRONLY))

@attempt
def read_the_kernels_addresses():
    return any(not line.startswith("0000000000000000") for line in open("/proc/kallsyms").readlines()[:50])

@attempt
def see_the_key_rings():
    return len(open("/proc/keys").read()) > 0

@attempt
def make_a_control_group():
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"):
        try:
            os.mkdir(root + "/catalog-attempt")
            os.rmdir(root + "/catalog-attempt")
            return True
        except OSError:
            pass
    return False

@attempt
def read_the_kernels_log():
    return reached(103, 116, 10, None, 0)

@attempt
def load_a_kernel_module():
    return reached(175, 105, None, 0, b"")

@attempt
def load_another_kernel():
    return reached(246, 104, 0, 99999, None, 0)

@attempt
def load_a_bpf_program():
    return reached(321, 280, 5, None, 0)

@attempt
def open_a_performance_counter():
    return reached(298, 241, None, 0, -1, -1, 0)

@attempt
def make_a_user_fault_descriptor():
    return reached(323, 282, 0)

@attempt
def set_up_an_io_ring():
    return reached(425, 425, 1, None)

@attempt
def add_a_kernel_key():
    return reached(248, 217, b"user", b"catalog-attempt", b"x", 1, -1)

@attempt
def turn_off_address_randomisation():
    return syscall(135, 92, 0x0040000) >= 0

@attempt
def set_the_clock():
    return syscall(164, 170, None, None) == 0

@attempt
def set_the_host_name():
    return syscall(170, 161, os.uname().nodename.encode(), len(os.uname().nodename)) == 0

# --- devices

@attempt
def open_a_disk():
    disks = [name for name in os.listdir("/sys/block")] or ["sda", "vda"]
    return any(os.open("/dev/" + name, os.O_RDONLY) > 0 for name in disks if os.path.exists("/dev/" + name))

@attempt
def open_physical_memory():
    return os.open("/dev/mem", os.O_RDONLY) > 0

@attempt
def open_the_kernel_message_device():
    return os.open("/dev/kmsg", os.O_WRONLY) > 0

@attempt
def make_a_device_node():
    path = os.environ.get("CATALOG_SCRATCH", "/tmp") + "/node"
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    os.unlink(path)
    return True

@attempt
def type_into_a_terminal():
    master, slave = os.openpty()
    os.setsid()
    fcntl.ioctl(slave, 0x540E, 0)
    fcntl.ioctl(slave, 0x5412, b"x")
    return True

@attempt
def type_into_standard_input():
    try:
        fcntl.ioctl(0, 0x5412, b"x")
    except OSError as error:
        return error.errno not in (errno.EPERM,)
    return True

# --- mounts, namespaces and privileges

@attempt
def mount_a_file_system():
    libc.unshare(0x20000)
    return syscall(165, 40, b"none", b"/tmp", b"tmpfs", 0, None) == 0

@attempt
def take_a_mask_off_proc():
    libc.unshare(0x20000)
    os.mkdir("/tmp/mask-" + target["marker"])
    if libc.mount(b"none", b"/tmp/mask-" + target["marker"].encode(), b"tmpfs", 0, None) == 0:
        return syscall(166, 39, b"/tmp/mask-" + target["marker"].encode(), 0) == 0
    return syscall(166, 39, b"/proc/sys", 2) == 0

@attempt
def open_a_mount_tree():
    return reached(428, 428, -100, b"/", 0)

@attempt
def make_a_user_namespace():
    return syscall(272, 97, 0x10000000) == 0

@attempt
def make_a_network_namespace():
    return syscall(272, 97, 0x40000000) == 0

@attempt
def make_a_namespace_by_clone():
    pid = syscall(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True

@attempt
def make_a_namespace_by_clone3():
    arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = syscall(435, 435, arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True

@attempt
def join_a_namespace_of_pid_1():
    fd = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    return reached(308, 268, fd, 0)

@attempt
def change_the_root():
    return syscall(161, 51, b"/tmp") == 0

@attempt
def become_root():
    os.setuid(0)
    return os.getuid() == 0

@attempt
def take_other_groups():
    os.setgroups([0])
    return True

@attempt
def gain_by_a_setuid_program():
    status = open("/proc/self/status").read()
    return "NoNewPrivs:\t1" not in status

@attempt
def have_capabilities():
    status = open("/proc/self/status").read()
    return "CapEff:\t0000000000000000" not in status or "CapBnd:\t0000000000000000" not in status

@attempt
def run_in_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return True

@attempt
def be_nicer_to_oneself():
    os.nice(-5)
    return True

@attempt
def raise_a_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    return True

@attempt
def escape_the_out_of_memory_killer():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    return True

# --- other processes

@attempt
def trace_a_process():
    return syscall(101, 117, 16, child(), None, None) == 0

@attempt
def read_the_memory_of_a_process():
    return reached(310, 270, child(), None, 0, None, 0, 0)

@attempt
def signal_a_process_of_the_host():
    # Only where it really is that process: process numbers inside mean other processes.
    name = open(f"/proc/{target['pid']}/cmdline").read()
    os.kill(target["pid"], 0)
    return "sleep" in name

@attempt
def see_the_processes_of_the_host():
    return len([name for name in os.listdir("/proc") if name.isdigit()]) > 8

@attempt
def end_the_reaper():
    os.kill(1, signal.SIGTERM) if os.path.exists("/runtime") else None
    time.sleep(0.2)
    return False

# --- secrets of the daemon

@attempt
def read_the_daemons_environment():
    return target["canary"] in str(dict(os.environ))

@attempt
def read_the_environment_of_pid_1():
    return target["canary"] in open("/proc/1/environ").read()

@attempt
def read_the_environment_of_any_process():
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and target["canary"] in open(f"/proc/{name}/environ").read():
                return True
        except OSError:
            pass
    return False

@attempt
def leave_a_core_dump():
    directory = os.environ.get("CATALOG_SCRATCH", "/tmp")
    os.chdir(directory)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    before = set(os.listdir("."))
    pid = os.fork()
    if pid == 0:
        os.abort()
    _, status = os.waitpid(pid, 0)
    for name in set(os.listdir(".")) - before:
        os.unlink(name)
    return os.WCOREDUMP(status)

@attempt
def call_the_kernel_as_i386():
    if arm:
        return False
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0

@attempt
def call_the_kernel_as_x32():
    return False if arm else syscall(0x40000000 + 39, 0) > 0


def perform(function):
    """In a process of its own, which may be ended for what it tries."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            effect = function()
        except BaseException:
            effect = False
        for other in children:
            os.kill(other, signal.SIGKILL)
        os.write(writer, json.dumps(effect).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 100)
    os.close(reader)
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else "killed"


signal.signal(signal.SIGCHLD, signal.SIG_DFL)
for name, function in attempts:
    print(json.dumps({"name": name, "effect": perform(function)}), flush=True)
