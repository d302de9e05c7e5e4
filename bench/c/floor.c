/* The floor: what the kernel alone costs. A static program that sends the requests of one IPv4 ADD, or
 * of one DEL, and does nothing else: no configuration, no address pool, no record, no answer.
 *
 * usage: floor add /proc/PID/fd/N HOSTIF   the namespace of the pod, the name of the node's end
 *        floor del HOSTIF
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_INDEX 4242
#define POD_INDEX 2

static char out[8192];
static size_t used;
static int count;
static struct nlmsghdr *head;

static void begin(int type, int flags, const void *body, size_t len)
{
	head = (struct nlmsghdr *)(out + used);
	memset(head, 0, sizeof *head);
	head->nlmsg_type = type;
	head->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	head->nlmsg_seq = ++count;
	memcpy(NLMSG_DATA(head), body, len);
	head->nlmsg_len = NLMSG_LENGTH(len);
	used += NLMSG_ALIGN(head->nlmsg_len);
}

static struct rtattr *put(int type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)(out + used);
	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	used += RTA_ALIGN(a->rta_len);
	head->nlmsg_len = out + used - (char *)head;
	return a;
}

static void u32(int type, uint32_t value) { put(type, &value, 4); }
static struct rtattr *nest(int type) { return put(type | NLA_F_NESTED, NULL, 0); }
static void end(struct rtattr *a) { a->rta_len = out + used - (char *)a; }

/* Sends what was put and waits for every answer. */
static int talk(int fd)
{
	char in[16384];
	if (send(fd, out, used, 0) < 0)
		return perror("send"), 1;
	for (int acks = 0; acks < count;) {
		ssize_t n = recv(fd, in, sizeof in, 0);
		if (n < 0)
			return perror("recv"), 1;
		for (struct nlmsghdr *h = (void *)in; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			struct nlmsgerr *e = NLMSG_DATA(h);
			if (e->error)
				return fprintf(stderr, "request %u: %s\n", h->nlmsg_seq, strerror(-e->error)), 1;
			acks++;
		}
	}
	used = count = 0;
	return 0;
}

static int rtnetlink(void)
{
	struct sockaddr_nl self = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	bind(fd, (void *)&self, sizeof self);
	return fd;
}

static void up(int index)
{
	struct ifinfomsg m = { .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	begin(RTM_NEWLINK, 0, &m, sizeof m);
}

static void address(int index, uint32_t ip, int scope)
{
	struct ifaddrmsg m = { .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = index, .ifa_scope = scope };
	begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof m);
	put(IFA_LOCAL, &ip, 4);
	put(IFA_ADDRESS, &ip, 4);
}

static void route(int index, const uint32_t *dst, const uint32_t *gateway)
{
	struct rtmsg m = { .rtm_family = AF_INET, .rtm_dst_len = dst ? 32 : 0, .rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = 70, .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK, .rtm_type = RTN_UNICAST };
	begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof m);
	if (dst)
		put(RTA_DST, dst, 4);
	if (gateway)
		put(RTA_GATEWAY, gateway, 4);
	u32(RTA_OIF, index);
}

static void neighbour(int index, uint32_t ip, const uint8_t *mac)
{
	struct ndmsg m = { .ndm_family = AF_INET, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT };
	begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof m);
	put(NDA_DST, &ip, 4);
	put(NDA_LLADDR, mac, 6);
}

static int add(const char *pod, const char *host_if)
{
	static const uint8_t host_mac[6] = { 2, 0, 0, 0, 0, 1 }, pod_mac[6] = { 2, 0, 0, 0, 0, 2 };
	uint32_t ip = inet_addr("10.99.0.2"), gateway = inet_addr("169.254.1.1");
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int ns = open(pod, O_RDONLY | O_CLOEXEC), host = rtnetlink();
	if (own < 0 || ns < 0 || setns(ns, CLONE_NEWNET))
		return perror(pod), 1;
	int inside = rtnetlink();
	if (setns(own, CLONE_NEWNET))
		return perror("setns"), 1;

	struct ifinfomsg m = { .ifi_index = HOST_INDEX };
	begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof m);
	put(IFLA_IFNAME, host_if, strlen(host_if) + 1);
	put(IFLA_ADDRESS, host_mac, 6);
	u32(IFLA_MTU, 1500);
	u32(IFLA_NUM_TX_QUEUES, 1);
	u32(IFLA_NUM_RX_QUEUES, 1);
	struct rtattr *info = nest(IFLA_LINKINFO);
	put(IFLA_INFO_KIND, "veth", 4);
	struct rtattr *data = nest(IFLA_INFO_DATA), *peer = nest(VETH_INFO_PEER);
	struct ifinfomsg p = { .ifi_index = POD_INDEX };
	memcpy(out + used, &p, sizeof p);
	used += sizeof p;
	put(IFLA_IFNAME, "eth0", 5);
	put(IFLA_ADDRESS, pod_mac, 6);
	u32(IFLA_MTU, 1500);
	u32(IFLA_NUM_TX_QUEUES, 1);
	u32(IFLA_NUM_RX_QUEUES, 1);
	u32(IFLA_NET_NS_FD, ns);
	end(peer);
	end(data);
	end(info);

	struct ifinfomsg s = { .ifi_index = HOST_INDEX };
	begin(RTM_NEWLINK, 0, &s, sizeof s);
	put(IFLA_IFALIAS, "flatnet floor", 13);
	struct rtattr *spec = nest(IFLA_AF_SPEC), *inet = nest(AF_INET), *conf = nest(IFLA_INET_CONF);
	u32(IPV4_DEVCONF_FORWARDING, 1);
	u32(IPV4_DEVCONF_PROXY_ARP, 1);
	u32(IPV4_DEVCONF_RP_FILTER, 1);
	end(conf);
	end(inet);
	struct rtattr *inet6 = nest(AF_INET6);
	uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	put(IFLA_INET6_ADDR_GEN_MODE, &none, 1);
	end(inet6);
	end(spec);
	up(HOST_INDEX);
	address(HOST_INDEX, gateway, RT_SCOPE_HOST);
	route(HOST_INDEX, &ip, NULL);
	neighbour(HOST_INDEX, ip, pod_mac);
	if (talk(host))
		return 1;

	up(1);
	up(POD_INDEX);
	address(POD_INDEX, ip, RT_SCOPE_UNIVERSE);
	neighbour(POD_INDEX, gateway, host_mac);
	route(POD_INDEX, &gateway, NULL);
	route(POD_INDEX, NULL, &gateway);
	return talk(inside);
}

static int del(const char *host_if)
{
	struct ifinfomsg m = { 0 };
	begin(RTM_DELLINK, 0, &m, sizeof m);
	put(IFLA_IFNAME, host_if, strlen(host_if) + 1);
	return talk(rtnetlink());
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "add"))
		return add(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "del"))
		return del(argv[2]);
	fprintf(stderr, "usage: floor add NETNS HOSTIF | floor del HOSTIF\n");
	return 2;
}
