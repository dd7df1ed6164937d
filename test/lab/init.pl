# Process 1 of a lab machine. Reaps orphans, and starts programs when the lab asks over stdin:
#   start <TAB> LOGFILE <TAB> PROGRAM <TAB> ARGUMENT...   answered by   started <TAB> PID
# Every death of a child is told as   exited <TAB> PID <TAB> WAIT-STATUS.   End of stdin ends the machine.
use strict;
use warnings;
use POSIX ':sys_wait_h';

$0 = 'lab-init';
$| = 1;
$SIG{CHLD} = sub { };
$ENV{PATH} = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
print "ready\n";

my $pending = '';
while (1) {
    while ((my $pid = waitpid(-1, WNOHANG)) > 0) { print "exited\t$pid\t$?\n"; }
    my $ready = '';
    vec($ready, 0, 1) = 1;
    # A signal between waitpid and select would be missed: half a second bounds how late a zombie is reaped.
    next if select($ready, undef, undef, 0.5) <= 0;
    my $length = sysread(STDIN, $pending, 65536, length $pending);
    exit 0 if defined $length && $length == 0;
    while ($pending =~ s/^([^\n]*)\n//) {
        my ($verb, $log, @argv) = split /\t/, $1;
        next if $verb ne 'start';
        my $pid = fork();
        if (defined $pid && $pid == 0) {
            POSIX::setsid();
            open(STDIN, '<', '/dev/null');
            open(STDOUT, '>>', $log);
            open(STDERR, '>&', \*STDOUT);
            exec { $argv[0] } @argv;
            print STDERR "exec $argv[0]: $!\n";
            POSIX::_exit(127);
        }
        print "started\t", $pid // 0, "\n";
    }
}
