/** Where the DaemonSet puts it; only root can enter the folder. */
export const DEFAULT_SOCKET = '/run/exhibit/exhibit.sock';
