//! Actions for Wisp in Zig: a function from JSON to JSON on the core ABI.
//!
//!     const wisp = @import("wisp.zig");
//!
//!     const Params = struct { name: []const u8 = "stranger" };
//!
//!     fn greet(arena: std.mem.Allocator, params: Params) !struct { greeting: []const u8 } {
//!         return .{ .greeting = try std.fmt.allocPrint(arena, "Hello, {s}!", .{params.name}) };
//!     }
//!
//!     comptime {
//!         wisp.action(Params, greet);
//!     }
//!
//! Build: zig build-exe main.zig -target wasm32-freestanding -fno-entry -rdynamic -OReleaseSmall --stack 65536
//!
//! What the arena gives is taken back when the next activation begins. An error that the function returns is an application
//! error with its name; `fail` says more. A panic traps.

const std = @import("std");

const host = struct {
    extern "wisp" fn context_get(name: [*]const u8, name_len: usize, to: [*]u8, to_len: usize) i32;
    extern "wasi_snapshot_preview1" fn fd_write(file: u32, parts: [*]const Part, count: u32, written: *u32) u16;

    const Part = extern struct { at: [*]const u8, len: u32 };
};

var arena_state = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var message: ?[]const u8 = null;

/// Makes a function the action: `fn (std.mem.Allocator, Params) !Result`. Fields without a default must be there; others
/// that are sent are left alone.
pub fn action(comptime Params: type, comptime run: anytype) void {
    const exports = struct {
        fn alloc(len: usize) callconv(.c) ?[*]u8 {
            _ = arena_state.reset(.{ .retain_with_limit = 1 << 20 });
            const room = arena_state.allocator().alloc(u8, @max(len, 1)) catch return null;
            return room.ptr;
        }

        fn call(at: [*]const u8, len: usize) callconv(.c) u64 {
            const arena = arena_state.allocator();
            const result = answer(arena, at[0..len]) catch |failure| failed(arena, failure);
            return @as(u64, @intFromPtr(result.ptr)) << 32 | result.len;
        }

        fn answer(arena: std.mem.Allocator, input: []const u8) ![]const u8 {
            message = null;
            const params = std.json.parseFromSliceLeaky(Params, arena, input, .{ .ignore_unknown_fields = true }) catch |failure| {
                return fail("The parameters do not fit the action: {s}", .{@errorName(failure)});
            };
            const result = try run(arena, params);
            return std.json.Stringify.valueAlloc(arena, result, .{});
        }
    };
    @export(&exports.alloc, .{ .name = "wisp_alloc" });
    @export(&exports.call, .{ .name = "wisp_run" });
}

/// An application error with a message: `return wisp.fail("n must be less than {d}", .{10});`
pub fn fail(comptime format: []const u8, arguments: anytype) error{Failed} {
    message = std.fmt.allocPrint(arena_state.allocator(), format, arguments) catch null;
    return error.Failed;
}

fn failed(arena: std.mem.Allocator, failure: anyerror) []const u8 {
    const said: []const u8 = message orelse @errorName(failure);
    return std.json.Stringify.valueAlloc(arena, .{ .@"error" = said }, .{}) catch "{\"error\":\"OutOfMemory\"}";
}

/// A line of the activation's log.
pub fn log(comptime format: []const u8, arguments: anytype) void {
    const line = std.fmt.allocPrint(arena_state.allocator(), format ++ "\n", arguments) catch return;
    var written: u32 = 0;
    _ = host.fd_write(1, &.{.{ .at = line.ptr, .len = @intCast(line.len) }}, 1, &written);
}

/// A variable of the activation: `__OW_ACTIVATION_ID`, `__OW_NAMESPACE`, `__OW_DEADLINE`, …; null when it is not set.
pub fn context(name: []const u8) ?[]const u8 {
    var room: []u8 = arena_state.allocator().alloc(u8, 128) catch return null;
    while (true) {
        const len = host.context_get(name.ptr, name.len, room.ptr, room.len);
        if (len < 0) return null;
        const whole: usize = @intCast(len);
        if (whole <= room.len) return room[0..whole];
        room = arena_state.allocator().alloc(u8, whole) catch return null;
    }
}
