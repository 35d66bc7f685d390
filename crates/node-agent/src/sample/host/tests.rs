use proptest::prelude::*;

use super::*;

const STAT: &str = "\
cpu  100 10 50 800 40 5 5 90 33 0
cpu0 50 5 25 400 20 2 3 45 16 0
cpu1 50 5 25 400 20 3 2 45 17 0
intr 123 4 5
ctxt 99
";
const MEMINFO: &str = "\
MemTotal:        2000 kB
MemFree:          100 kB
MemAvailable:    1500 kB
SwapCached:         9 kB
SwapTotal:         30 kB
SwapFree:          20 kB
";
const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0
  eth0: 200 1 0 0 0 0 0 0 300 1 0 0 0 0 0 0
  eth1: 20 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0
docker0: 50 1 0 0 0 0 0 0 60 1 0 0 0 0 0 0
veth1: 7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0
";
const ROUTE: &str = "\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth1\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
";
const PSI: &str =
    "some avg10=1.50 avg60=2.00 avg300=3.00 total=4\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=0\n";

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn a_host(root: &Path) {
    write(
        root,
        &[
            ("proc/stat", STAT),
            ("proc/meminfo", MEMINFO),
            ("proc/loadavg", "0.50 1.25 2.00 3/400 999\n"),
            ("proc/1/net/dev", DEV),
            ("proc/1/net/route", ROUTE),
            ("proc/pressure/cpu", PSI),
            ("proc/pressure/memory", PSI),
            ("proc/pressure/io", PSI),
            ("sys/class/net/eth0/device/uevent", ""),
            ("sys/class/net/eth1/device/uevent", ""),
            ("sys/class/net/docker0/address", ""),
        ],
    );
}

#[test]
fn a_host_is_read() {
    let dir = tempfile::tempdir().unwrap();
    a_host(dir.path());
    let (sample, cpus) = HostReader::below(dir.path()).read(Timestamp::UNIX_EPOCH);
    let pressure =
        Pressure { cpu_some: 1.5, memory_some: 1.5, memory_full: 0.25, io_some: 1.5, io_full: 0.25 };
    let expected = HostSample {
        at: Timestamp::UNIX_EPOCH,
        load: Some([0.5, 1.25, 2.0]),
        memory_bytes: Some(2000 << 10),
        memory_available_bytes: Some(1500 << 10),
        swap_bytes: Some(30 << 10),
        swap_free_bytes: Some(20 << 10),
        network_rx_bytes: Some(220),
        network_tx_bytes: Some(330),
        pressure: Some(pressure),
        ..HostSample::default()
    };
    assert_eq!((sample, cpus), (expected, Some(2)));
}

#[test]
fn cpu_time_between_two_readings_is_in_percent_of_one_core() {
    let dir = tempfile::tempdir().unwrap();
    a_host(dir.path());
    let mut reader = HostReader::below(dir.path());
    assert_eq!(reader.read(Timestamp::UNIX_EPOCH).0.cpu_percent, None);
    // 50 of 100 ticks of two CPUs: one whole core. Idle, disk and steal are no use.
    let later = "cpu  130 10 60 830 45 10 10 105 0 0\ncpu0 1\ncpu1 1\nintr 1\n";
    write(dir.path(), &[("proc/stat", later)]);
    assert_eq!(reader.read(Timestamp::UNIX_EPOCH).0.cpu_percent, Some(100.0));
    // Counters that went back say nothing.
    write(dir.path(), &[("proc/stat", STAT)]);
    assert_eq!(reader.read(Timestamp::UNIX_EPOCH).0.cpu_percent, None);
}

#[test]
fn without_devices_the_way_out_is_where_the_default_route_goes() {
    let dir = tempfile::tempdir().unwrap();
    a_host(dir.path());
    fs::remove_dir_all(dir.path().join("sys")).unwrap();
    let mut reader = HostReader::below(dir.path());
    let (sample, _) = reader.read(Timestamp::UNIX_EPOCH);
    assert_eq!((sample.network_rx_bytes, sample.network_tx_bytes), (Some(20), Some(30)));
    fs::remove_file(dir.path().join("proc/1/net/route")).unwrap();
    let (sample, _) = reader.read(Timestamp::UNIX_EPOCH);
    assert_eq!((sample.network_rx_bytes, sample.network_tx_bytes), (None, None));
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (sample, cpus) = HostReader::below(dir.path()).read(Timestamp::UNIX_EPOCH);
    assert_eq!((sample, cpus), (HostSample { at: Timestamp::UNIX_EPOCH, ..HostSample::default() }, None));
    write(dir.path(), &[("proc/meminfo", "MemTotal: 1 kB\n"), ("proc/pressure/cpu", PSI)]);
    let (sample, _) = HostReader::below(dir.path()).read(Timestamp::UNIX_EPOCH);
    assert_eq!((sample.memory_bytes, sample.memory_available_bytes), (Some(1024), None));
    assert_eq!(sample.pressure, None);
}

#[test]
fn each_file_system_is_there_once_and_called_by_where_it_is_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let found =
        disks(&[inner.clone(), dir.path().into(), "/proc/self".into(), "/no/such".into(), "rel".into()]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(inner.starts_with(&found[0].path) && found[0].path != inner.display().to_string(), "{found:?}");
    assert!(found[0].size_bytes >= found[0].free_bytes && found[0].free_bytes > 0, "{found:?}");
    assert_eq!(found[1].path, "/proc");
}

#[test]
fn this_host_can_be_read() {
    let (sample, cpus) = HostReader::default().read(Timestamp::UNIX_EPOCH);
    assert!(cpus.is_some_and(|cpus| cpus > 0) && sample.load.is_some() && sample.memory_bytes.is_some());
    assert!(sample.memory_available_bytes < sample.memory_bytes);
    assert!(!disks(&["/".into()]).is_empty());
}

proptest! {
    #[test]
    fn no_text_panics(text in "(.|\n){0,200}", number: u64) {
        let _ = (cpu_time(&text), load(&text), meminfo_bytes(&text, "a"), psi_avg10(&text, "some"));
        let _ = (cpu_time(&format!("cpu {number} {number} {text}")), load(&format!("{text} 1 2")));
        let _ = (meminfo_bytes(&format!("a: {number} kB"), "a"), psi_avg10(&format!("some avg10={text}"), "some"));
    }
}
