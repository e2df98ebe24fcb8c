const std = @import("std");
const wisp = @import("wisp");

const Params = struct { name: []const u8 = "stranger" };

const Greeting = struct { greeting: []const u8 };

fn greet(arena: std.mem.Allocator, params: Params) !Greeting {
    if (params.name.len == 0) return wisp.fail("name must not be empty", .{});
    wisp.log("greeting {s}", .{params.name});
    return .{ .greeting = try std.fmt.allocPrint(arena, "Hello, {s}!", .{params.name}) };
}

comptime {
    wisp.action(Params, greet);
}
